-- What may be read of entries, clients and places. A: era, what, and its arguments.
local read = {}

local function entries_of(name, keys)
  local found = {}
  for index, key in ipairs(keys) do
    found[index] = call('HGET', T .. ':e:' .. name, key)
  end
  return found
end

function read.mids(names)
  local lasts = {}
  for index, name in ipairs(names) do
    lasts[index] = tonumber(call('HGET', T .. ':m:' .. name, 'l') or 0)
  end
  return lasts
end

-- Reply: the version that 0 stands for, then each entry or nothing.
function read.entries(name, keys)
  return {swapped_at(name), entries_of(name, keys)}
end

-- Reply: epoch, top, the version that 0 stands for, the entries in the order of the keys, by turns the keys that are dirty and at which
-- version, if that is asked, and the last mutations of the clients named.
function read.look_up(channel, keys, with_dirty, names)
  local head, dirty = head_of(channel), {}
  for _, key in ipairs(with_dirty and keys or {}) do
    local version = call('HGET', T .. ':d', head.name .. '\0' .. key)
    if version then
      dirty[#dirty + 1], dirty[#dirty + 2] = key, tonumber(version)
    end
  end
  return {head.epoch, head.top, head.at, entries_of(head.name, keys), dirty, read.mids(names)}
end

-- Reply: epoch, top, whether these were the last, last mutations of the clients named, the version that 0 stands for, then key and entry
-- by turns.
function read.scan(channel, after, limit, room, names)
  local head = head_of(channel)
  local reply, count = {head.epoch, head.top, 1, read.mids(names), head.at}, 0
  each_lex(T .. ':s:' .. head.name, {{after, '+'}}, function(keys)
    local raws = call('HMGET', T .. ':e:' .. head.name, unpack(keys))
    for index, key in ipairs(keys) do
      local _, _, value = entry_of(raws[index])
      room = room - #value
      if count == limit or (count > 0 and room < 0) then
        reply[3] = 0
        return true
      end
      count = count + 1
      reply[#reply + 1] = key
      reply[#reply + 1] = raws[index]
    end
  end)
  return reply
end

-- Members of a sorted set in some ranges; with the name of a hash, each with its value there.
function read.places(set, ranges, limit, hash)
  local reply, count = {}, 0
  each_lex(T .. set, ranges, function(places)
    for _, place in ipairs(places) do
      if count == limit then
        return true
      end
      count = count + 1
      reply[#reply + 1] = place
      if hash then
        reply[#reply + 1] = tonumber(call('HGET', T .. hash, place))
      end
    end
  end)
  return reply
end

-- Some places of a tag after one. While there are generations, their rows are among them, and what counts is the entry.
-- Reply: the last place looked at or nothing when it was all, then places.
function read.tagged(tag, collection, ranges, limit)
  local row = call('HMGET', T .. ':r:' .. collection, 'open', 'dead')
  local is_exact = row[1] ~= '1' and tonumber(row[2] or 0) == 0
  local reply, visited, room, is_all = {false}, 0, 1024 * 1024, true
  each_lex(T .. ':t:' .. tag, ranges, function(places)
    for _, place in ipairs(places) do
      if #reply > limit or visited == 1000 or room < 0 then
        is_all = false
        return true
      end
      visited, reply[1] = visited + 1, place
      local raw = ''
      if not is_exact then
        local name, key = string.match(place, '^([^%z]*)%z(.*)$')
        raw = call('HGET', T .. ':e:' .. name, key)
        room = room - #(raw or '')
      end
      if is_exact or raw and contains(select(2, entry_of(raw)), tag) then
        reply[#reply + 1] = place
      end
    end
  end)
  reply[1] = not is_all and reply[1]
  return reply
end

-- Reply: epoch, top and floor of each.
function read.heads(channels)
  local reply = {}
  for _, channel in ipairs(channels) do
    local head = head_of(channel)
    reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = head.epoch, head.top, floor_of(head)
  end
  return reply
end

function read.count(name)
  return call('HLEN', T .. ':e:' .. name)
end

return read[A[2]](A[3], A[4], A[5], A[6], A[7])
