-- What there is to know of leases and generations. A: era, what, collection, and its arguments. Each looks at a bounded number of rows.
local collection = A[3]
local lease = T .. ':r:' .. collection
local plan = {}

function plan.checkpoint()
  local row = call('HMGET', lease, 'job', 'done', 'open')
  return row[3] == '1' and {row[1], tonumber(row[2])} or false
end

-- Whether a token is good, and the rows that were written with it are there.
function plan.holds(token, done)
  local is_whole = not done or tonumber(call('HGET', lease, 'done') or 0) >= done
  return is_whole and is_held(collection, token) and 1 or 0
end

-- Of each collection that had a rebuild: name, job, token, whether its generation is open, its lease runs, it was abandoned, rows, note.
function plan.standings(now, collections)
  now = time_or(now)
  local reply = {}
  for _, name in ipairs(collections) do
    local row = call('HMGET', T .. ':r:' .. name, 'token', 'expires', 'open', 'job', 'done', 'note')
    if row[1] then
      local is_open = row[3] == '1' and 1 or 0
      local is_held = tonumber(row[2]) > now and 1 or 0
      local is_left = is_abandoned(row, now) and 1 or 0
      reply[#reply + 1] = {name, row[4], tonumber(row[1]), is_open, is_held, is_left, tonumber(row[5] or 0),
        row[3] == '1' and row[6] or ''}
    end
  end
  return reply
end

-- A generation that ended meanwhile reads as one without rows: what would be done of that is refused.
local id = call('HGET', lease, 'generation') or '0:' .. collection

-- How many rows have changed, for some channels after one. Reply: how many are listed one by one, then channel and number by turns.
function plan.counts(after)
  local reply = {call('ZCARD', T .. ':rl:' .. collection)}
  local names = call('ZRANGEBYLEX', T .. ':gc:' .. id, after, '+', 'LIMIT', 0, 500)
  if #names > 0 then
    for index, count in ipairs(call('HMGET', T .. ':gn:' .. id, unpack(names))) do
      reply[2 * index], reply[2 * index + 1] = names[index], tonumber(count or 0)
    end
  end
  return reply
end

-- Of listed rows after a place, those that change something still. Reply: the last place looked at or nothing, then place and row by turns.
function plan.listed(after)
  local places = call('ZRANGEBYLEX', T .. ':rl:' .. collection, after, '+', 'LIMIT', 0, 200)
  local is_touched, reply, room = are_touched(collection, places), {false}, 1024 * 1024
  for index, place in ipairs(places) do
    local name, key = string.match(place, '^([^%z]*)%z(.*)$')
    local raw = call('HGET', stage_of(id, name), key)
    reply[1] = place
    if raw and not is_touched[index] and is_change(raw) then
      reply[#reply + 1], reply[#reply + 2] = place, raw
      room = room - #raw
      if room < 0 then
        break
      end
    end
  end
  return reply
end

-- Which keys are neither in the generation nor touched.
local function not_scanned(name, keys)
  local places, reply, _, order = {}, {}, stage_of(id, name)
  for index, key in ipairs(keys) do
    places[index] = name .. '\0' .. key
  end
  local is_touched = are_touched(collection, places)
  for index, score in ipairs(call('ZMSCORE', order, unpack(keys))) do
    if not score and not is_touched[index] then
      reply[#reply + 1] = keys[index]
    end
  end
  return reply
end

-- Of the next entries of some channels, `count` in all, those that were not scanned; in the first one after a key. Reply: the key that was the
-- last to be looked at, if its channel may have more, then the keys of each channel that was come to.
function plan.missing(names, after, count)
  local reply = {false}
  for index, name in ipairs(names) do
    local keys = call('ZRANGEBYLEX', T .. ':s:' .. name, index == 1 and after or '-', '+', 'LIMIT', 0, count)
    reply[#reply + 1] = #keys > 0 and not_scanned(name, keys) or {}
    if #keys == count then
      reply[1] = keys[#keys]
      break
    end
    count = count - #keys
  end
  return reply
end

-- Of some keys, those that are entries and were not scanned.
function plan.missing_among(name, keys)
  local found = {}
  for index, score in ipairs(call('ZMSCORE', T .. ':s:' .. name, unpack(keys))) do
    if score then
      found[#found + 1] = keys[index]
    end
  end
  return #found > 0 and not_scanned(name, found) or {}
end

return plan[A[2]](A[4], A[5], A[6])
