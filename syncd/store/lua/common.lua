-- What every script begins with: names, the era, a channel's head. ARGV[1] is one msgpack array that begins with the caller's era.
-- Numbers stay below 2^53. `A` are the arguments, `T` the hash tag that all keys begin with.
local T = string.sub(KEYS[1], 1, -6)
local A = cmsgpack.unpack(ARGV[1])
local call, pack = redis.call, cmsgpack.pack
-- While a cluster moves our slot, a key that is not here, or nowhere yet, cannot be used: asking for two refuses that before anything is written.
call('EXISTS', KEYS[1], T .. ':never')
local era = call('HGET', KEYS[1], 'era')
if era ~= A[1] then
  return redis.error_reply('ERA the data is of another era')
end

local function id_of(offset)
  return string.format('%.0f-0', offset)
end

-- Offset in an id of a log's stream.
local function offset_of(id)
  return tonumber(string.sub(id, 1, -3))
end

-- A channel as the caller describes it is {name, epoch it would get now, size, age in ms or -1, is latest}. A row of another era
-- is of an epoch that may have gone on without us: it reads as the new one, with nothing in it, and is written so by the next event.
local function head_of(channel)
  local row = call('HMGET', T .. ':c:' .. channel[1], 'e', 't', 'f', 'a', 'g')
  local head = {name = channel[1], size = channel[3], age = channel[4], latest = channel[5], at = tonumber(row[5] or 0)}
  if not row[1] then
    head.epoch, head.top, head.floor, head.is_new = channel[2], 0, 0, true
  elseif row[4] == era then
    head.epoch, head.top, head.floor = row[1], tonumber(row[2]), tonumber(row[3])
  else
    head.epoch, head.top, head.is_renewed = channel[2], tonumber(row[2]), true
    head.floor = head.top
  end
  return head
end

-- Positions from here on can be recovered; for streams the size holds at once, trimmed or not.
local function floor_of(head)
  if head.latest then
    return head.floor
  end
  return math.max(head.floor, head.top - head.size)
end

-- An event lies as msgpack objects after each other: wall time in ms, key or nil, record.
local function record_length(blob)
  local at = cmsgpack.unpack_limit(blob, 2)
  local length = #blob - at
  if length < 258 then
    return length - 2
  elseif length < 65539 then
    return length - 3
  end
  return length - 5
end

-- An entry lies as {version, tags} in msgpack, with its value behind; version 0 stands for `swapped_at`.
local function entry_of(raw)
  local at, head = cmsgpack.unpack_one(raw)
  return head[1], head[2], at == -1 and '' or string.sub(raw, at + 1)
end

-- The offset that stands behind version 0 in a channel: its entries were swapped in together, and which it was is noted once.
local function swapped_at(name)
  return tonumber(call('HGET', T .. ':c:' .. name, 'g') or 0)
end

local function contains(list, wanted)
  for _, each in ipairs(list) do
    if each == wanted then
      return true
    end
  end
  return false
end

-- A time as the caller gives it in ms, or the server's own.
local function time_or(now)
  if now then
    return now
  end
  local at = call('TIME')
  return at[1] * 1000 + math.floor(at[2] / 1000)
end

-- Of a rebuild's lease {token, expires, open, ...}: it ran out, and nobody has given it back.
local function is_abandoned(row, now)
  local expires = tonumber(row[2])
  return row[3] == '1' and expires > 0 and expires <= now
end

local function collection_of(name)
  local slash = string.find(name, '/', 1, true)
  return slash and string.sub(name, 1, slash - 1) or name
end

-- Call `visit` with lists of at most 500 members in any of the ranges, in order, until it returns true.
local function each_lex(key, ranges, visit)
  for _, range in ipairs(ranges) do
    local from = range[1]
    while true do
      local found = call('ZRANGEBYLEX', key, from, range[2], 'LIMIT', 0, 500)
      if #found > 0 and visit(found) then
        return
      end
      if #found < 500 then
        break
      end
      from = '(' .. found[#found]
    end
  end
end
