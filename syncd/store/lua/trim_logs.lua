-- Drop events past their age from some channels, at most 500 of each. A: era, wall time in ms, channels.
-- Reply: how many went, whether there is more. The floor moves to the newest that went.
local now, count, is_more = A[2], 0, 0
for _, channel in ipairs(A[3]) do
  local head = head_of(channel)
  local log, due = T .. ':l:' .. head.name, nil
  if head.age >= 0 and head.top > head.floor then
    local old = head.floor
    for index, event in ipairs(call('XRANGE', log, id_of(old + 1), '+', 'COUNT', 501)) do
      local _, at, key = cmsgpack.unpack_limit(event[2][2], 2)
      due = at + head.age
      if due >= now or index > 500 then
        break
      end
      head.floor, due, count = offset_of(event[1]), nil, count + 1
      if head.latest then
        call('HDEL', T .. ':k:' .. head.name, key and 'k' .. key or '')
      end
    end
    if head.floor > old then
      call('XTRIM', log, 'MINID', id_of(head.floor + 1))
      call('HSET', T .. ':c:' .. head.name, 'f', head.floor)
    end
    if not due and head.top > head.floor then
      due = now
    end
  elseif head.is_renewed then
    -- Of an era that is over: nobody is told it any more, and the channel's next event, which would delete it, may never come.
    call('UNLINK', log, T .. ':k:' .. head.name)
  end
  if due then
    call('ZADD', T .. ':ages', due, head.name)
    is_more = due < now and 1 or is_more
  else
    call('ZREM', T .. ':ages', head.name)
  end
end
return {count, is_more}
