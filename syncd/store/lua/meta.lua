-- A value beside the log. A: era, key, value or false to leave it. Reply: what is there now.
if A[3] then
  call('HSET', KEYS[1], 'm:' .. A[2], A[3])
end
return call('HGET', KEYS[1], 'm:' .. A[2])
