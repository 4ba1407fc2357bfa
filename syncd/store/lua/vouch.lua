-- Compare what a node knows with what there is. A: era, whether the node knew it before this era, then per channel
-- {name, epoch it would get now, epoch known, top known, epoch to use}. Reply: the numbers of the channels that go on with another epoch.
-- A vouched channel keeps its epoch; where the data is behind what the node knows, or of another epoch, a new one begins at its top.
local was_before, renewed = A[2], {}
for index, channel in ipairs(A[3]) do
  local key, top = T .. ':c:' .. channel[1], channel[4]
  local row = call('HMGET', key, 'e', 't', 'a', 'v')
  local is_kept = true
  if not row[1] then
    is_kept = channel[3] == channel[2] and top == 0
    if not is_kept and channel[3] == channel[2] then
      call('HSET', key, 'e', channel[5], 't', 0, 'f', 0, 'a', era)
      call('ZADD', T .. ':channels', 0, channel[1])
    end
  else
    local there = tonumber(row[2])
    local is_entering = row[3] ~= era
    -- What other nodes wrote since this era began is not what this node knew before it.
    if was_before and not is_entering and row[4] then
      there = math.min(there, tonumber(row[4]))
    end
    is_kept = row[1] == channel[3] and there >= top
    if is_kept and is_entering then
      call('HSET', key, 'a', era, 'v', row[2])
    elseif is_entering or (row[1] == channel[3] and not is_kept) then
      local epoch = is_entering and channel[2] or channel[5]
      call('UNLINK', T .. ':l:' .. channel[1], T .. ':k:' .. channel[1])
      call('HSET', key, 'e', epoch, 'f', row[2], 'a', era)
      call('HDEL', key, 'v')
    end
  end
  if not is_kept then
    renewed[#renewed + 1] = index
  end
end
return renewed
