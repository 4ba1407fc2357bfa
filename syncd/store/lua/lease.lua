-- A plain lease, by the server's clock. A: era, name, holder, for how long in ms; 0 gives it back. Reply: whether it is the holder's.
local key = T .. ':h:' .. A[2]
local held = call('GET', key)
if held and held ~= A[3] then
  return 0
end
if A[4] > 0 then
  call('SET', key, A[3], 'PX', A[4])
elseif held then
  call('UNLINK', key)
end
return 1
