-- What a swap would change. A: era, what, collection, and its arguments.
local collection = A[3]
local lease, rows, order, touched =
  T .. ':r:' .. collection, T .. ':rr:' .. collection, T .. ':rs:' .. collection, T .. ':rt:' .. collection
local plan = {}

function plan.checkpoint()
  local row = call('HMGET', lease, 'job', 'done', 'open')
  return row[3] == '1' and {row[1], tonumber(row[2])} or false
end

function plan.holds(token)
  local row = call('HMGET', lease, 'token', 'expires', 'open')
  return row[1] and tonumber(row[1]) == token and tonumber(row[2]) > 0 and row[3] == '1' and 1 or 0
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

-- Rows that change something: place and row by turns, at most `limit` of them.
function plan.changed(limit)
  local reply = {}
  each_lex(order, {{'-', '+'}}, function(places)
    for _, place in ipairs(places) do
      local raw = call('HGET', rows, place)
      if raw ~= '' and call('SISMEMBER', touched, place) == 0 then
        reply[#reply + 1] = place
        reply[#reply + 1] = raw
        if #reply >= 2 * limit then
          return true
        end
      end
    end
  end)
  return reply
end

-- Entries of some channels that were not scanned: their places, at most `limit` of them.
function plan.missing(limit, names)
  local reply = {}
  for _, name in ipairs(names) do
    each_lex(T .. ':s:' .. name, {{'-', '+'}}, function(keys)
      for _, key in ipairs(keys) do
        local place = name .. '\0' .. key
        if call('HEXISTS', rows, place) == 0 and call('SISMEMBER', touched, place) == 0 then
          reply[#reply + 1] = place
          if #reply >= limit then
            return true
          end
        end
      end
    end)
  end
  return reply
end

-- Channels that rows were scanned of.
function plan.channels()
  local reply, from = {}, '-'
  while true do
    local found = call('ZRANGEBYLEX', order, from, '+', 'LIMIT', 0, 1)
    if #found == 0 then
      return reply
    end
    local name = string.match(found[1], '^[^%z]*')
    reply[#reply + 1] = name
    from = '[' .. name .. '\1'
  end
end

return plan[A[2]](A[4], A[5])
