-- Make what every store needs, and note which server has the data. ARGV: secret, seed and era to use where there are none, the
-- server's run id, whether a server that starts again has lost nothing.
-- Reply: secret, seed, era. Another server may have lost the end of every log: a new era, in which no epoch goes on unvouched.
local meta, call = KEYS[1], redis.call
call('HSETNX', meta, 'm:node_secret', ARGV[1])
if call('HSETNX', meta, 'm:epoch_seed', ARGV[2]) == 1 then
  call('HSET', meta, 'era', ARGV[3] .. ':0', 'run', ARGV[4])
end
if call('HGET', meta, 'run') ~= ARGV[4] then
  if ARGV[5] ~= '1' then
    local name, count = string.match(call('HGET', meta, 'era'), '^(.*):(%d+)$')
    call('HSET', meta, 'era', string.format('%s:%d', name, count + 1))
  end
  call('HSET', meta, 'run', ARGV[4])
end
return {call('HGET', meta, 'm:node_secret'), call('HGET', meta, 'm:epoch_seed'), call('HGET', meta, 'era')}
