-- Claims of loads. A: era, what, holder, channel (false to renew those of any), and its arguments.
-- A claim lies as {top of its channel when it was granted, epoch, holder or false when it is loaded, whether it is fresh beyond its time,
-- whether another node waits for it}.
local holder, head, invalidated = A[3], nil, 0
local loads = {}
if A[4] then
  head = head_of(A[4])
  invalidated = tonumber(call('HGET', T .. ':c:' .. head.name, 'i') or 0)
end

local function lease_of(key)
  return T .. ':f:' .. head.name .. '\0' .. key
end

local function valid(lease)
  local raw = call('GET', lease)
  if raw then
    local claim = cmsgpack.unpack(raw)
    if claim[2] == head.epoch and claim[1] >= invalidated then
      return claim
    end
  end
end

-- Reply: epoch, top, the version that 0 stands for, then of each key: 0 free, 1 granted, 2 held, 3 loaded; ms that it is fresh, -1 for ever; the entry.
function loads.claim(keys, lease_ms, left)
  local reply = {head.epoch, head.top, head.at}
  for _, key in ipairs(keys) do
    local lease, state, fresh, entry = lease_of(key), 2, 0, false
    local claim = valid(lease)
    if claim and not claim[3] then
      state, entry = 3, call('HGET', T .. ':e:' .. head.name, key)
      fresh = claim[4] and -1 or math.max(call('PTTL', lease), 0)
    elseif not claim or claim[3] == holder then
      state = left > 0 and 1 or 0
      if state == 1 then
        left = left - 1
        call('SET', lease, pack({head.top, head.epoch, holder, false, claim and claim[5] or false}), 'PX', lease_ms)
      end
    elseif not claim[5] then
      claim[5] = true
      call('SET', lease, pack(claim), 'KEEPTTL')
    end
    reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = state, fresh, entry
  end
  return reply
end

-- What is renewed is {channel, keys} of several. One that an invalidation has ended stays ended: its position says so.
function loads.renew(rows, lease_ms)
  for _, row in ipairs(rows) do
    for _, key in ipairs(row[2]) do
      local lease = T .. ':f:' .. row[1] .. '\0' .. key
      local raw = call('GET', lease)
      if raw and cmsgpack.unpack(raw)[3] == holder then
        call('SET', lease, raw, 'PX', lease_ms)
      end
    end
  end
end

-- What is finished is {key, ms that it is remembered as loaded or 0, whether it is fresh beyond that}. Whoever waits is told at once.
function loads.finish(finished, node, publish)
  local ended = {}
  for _, each in ipairs(finished) do
    local lease = lease_of(each[1])
    local claim = valid(lease)
    if claim and claim[3] == holder then
      if each[2] > 0 then
        call('SET', lease, pack({claim[1], claim[2], false, each[3], false}), 'PX', each[2])
      else
        call('UNLINK', lease)
      end
      if claim[5] then
        ended[#ended + 1] = each[1]
      end
    end
  end
  if #ended > 0 then
    call(publish, T .. ':b:' .. head.name, '\147' .. node .. pack(head.epoch) .. pack({ended = ended}))
  end
end

return loads[A[2]](A[5], A[6], A[7])
