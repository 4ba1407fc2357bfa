-- Begin a new era if one of these logs has less than a node was told of it: it has lost its end, and so may every other have. The first node
-- to say so ends the era of which its knowledge is, so the next changes nothing. A: era, name of the new one, {channel, epoch, offset} each.
for _, told in ipairs(A[3]) do
  local head = head_of(told[1])
  if head.epoch == told[2] and head.top < told[3] then
    call('HSET', KEYS[1], 'era', next_era(era, A[2]))
    return 1
  end
end
return 0
