-- Drop what is too old, so much at a time. A: era, wall time in ms, and what is older than which goes: results of idempotency keys,
-- outcomes, clients. Reply: how many of each went, whether there is more, then the channels that have events past their age.
local now, step, is_more = A[2], 200, 0

local function forget_keys(cutoff)
  local found = call('XRANGE', T .. ':iq', '-', '+', 'COUNT', step)
  local count = 0
  for _, item in ipairs(found) do
    if tonumber(item[2][4]) >= cutoff then
      return count
    end
    call('HDEL', T .. ':i', item[2][2])
    call('XDEL', T .. ':iq', item[1])
    count = count + 1
  end
  is_more = count == step and 1 or is_more
  return count
end

-- The outcomes of one client, from the oldest on, up to the first that is young enough.
local function forget_outcomes(name, cutoff)
  local key, count = T .. ':m:' .. name, 0
  local row = call('HMGET', key, 'l', 'o')
  local last, dropped = tonumber(row[1] or 0), tonumber(row[2] or 0)
  local oldest
  while dropped < last do
    local field = string.format('%.0f', dropped + 1)
    local raw = call('HGET', key, field)
    if raw then
      local at = cmsgpack.unpack(raw)[1]
      if at >= cutoff then
        oldest = at
        break
      end
      count = count + call('HDEL', key, field)
    end
    dropped = dropped + 1
  end
  if row[1] then
    call('HSET', key, 'o', dropped)
  end
  if oldest then
    call('ZADD', T .. ':outs', oldest, name)
  else
    call('ZREM', T .. ':outs', name)
  end
  return count
end

local function older(set, cutoff, count)
  local found = call('ZRANGEBYSCORE', T .. set, '-inf', string.format('(%.0f', cutoff), 'LIMIT', 0, count)
  is_more = #found == count and 1 or is_more
  return found
end

local num_keys, num_outcomes, num_clients = forget_keys(A[3]), 0, 0
for _, name in ipairs(older(':outs', A[4], 20)) do
  num_outcomes = num_outcomes + forget_outcomes(name, A[4])
end
for _, name in ipairs(older(':users', A[5], step)) do
  call('UNLINK', T .. ':m:' .. name)
  call('ZREM', T .. ':users', name)
  call('ZREM', T .. ':outs', name)
  num_clients = num_clients + 1
end
local due = older(':ages', now, 64)
return {num_keys, num_outcomes, num_clients, is_more, due}
