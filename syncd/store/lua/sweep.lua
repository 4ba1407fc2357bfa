-- Delete some of what no rebuild needs any more: rows of some channels of one dead generation. A: era.
-- Their places of tags go first, but for those of the entry that is served now and of the row that may be served next; then all rows of a channel
-- at once, which Redis frees beside its work. Reply: whether there is more.
local id = call('ZRANGEBYLEX', T .. ':dead', '-', '+', 'LIMIT', 0, 1)[1]
if not id then
  return 0
end
local collection = string.match(id, '^%d+:(.*)$')
local lease, channels, notes = T .. ':r:' .. collection, T .. ':gc:' .. id, T .. ':gn:' .. id
local open = call('HGET', lease, 'generation')
local cursor = '\0at'  -- no channel has such a name

local function tags_of(raws, index)
  if raws and raws[index] then
    local _, tags = entry_of(raws[index])
    return tags
  end
  return {}
end

-- Drop places of tags. Reply: the bytes that were looked at.
local function drop(name, keys)
  local rows = stage_of(id, name)
  local raws, served, next_rows = call('HMGET', rows, unpack(keys)), call('HMGET', T .. ':e:' .. name, unpack(keys)), nil
  if open then
    next_rows = call('HMGET', stage_of(open, name), unpack(keys))
  end
  local size = 0
  for index, key in ipairs(keys) do
    local tags = raws[index] ~= served[index] and tags_of(raws, index) or {}
    size = size + #(raws[index] or '') + #(served[index] or '')
    if #tags > 0 then
      drop_tags(name .. '\0' .. key, tags, tags_of(served, index), tags_of(next_rows, index))
    end
  end
  return size
end

local num_left, room = 300, 512 * 1024

-- Go on in a channel. Reply: whether it is done.
local function sweep(name)
  local rows, order = stage_of(id, name)
  local from = call('HGET', notes, cursor)
  while num_left > 0 and room > 0 do
    local keys = call('ZRANGEBYLEX', order, from and '(' .. from or '-', '+', 'LIMIT', 0, 50)
    if #keys > 0 then
      room = room - drop(name, keys)
    end
    if #keys < 50 then
      call('UNLINK', rows, order)
      call('ZREM', channels, name)
      call('HDEL', notes, cursor)
      num_left = num_left - #keys - 10
      return true
    end
    num_left, from = num_left - #keys, keys[#keys]
  end
  call('HSET', notes, cursor, from)
  return false
end

for _, name in ipairs(call('ZRANGEBYLEX', channels, '-', '+', 'LIMIT', 0, 30)) do
  if num_left <= 0 or room <= 0 or not sweep(name) then
    return 1
  end
end
if call('EXISTS', channels) == 0 then
  call('ZREM', T .. ':dead', id)
  call('UNLINK', notes)
  call('HINCRBY', lease, 'dead', -1)
end
return call('EXISTS', T .. ':dead')
