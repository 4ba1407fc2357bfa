-- Make what every store needs, and note which server has the data, in which of its lives. ARGV: secret, seed and name of an era to use where
-- there are none, the server's run id, whether it keeps all that it answers ('1').
-- Reply: secret, seed, era.
-- An era goes on over a restart only from a life that kept all, as far as anybody looked, to one that does: any other may have lost the end
-- of every log. It ends, too, as soon as its server is seen to keep all no more: what is told from then on goes with the note, if that is lost.
-- The name of an era is new, for the end that was lost may have told of one itself.
local secret, seed, name, run, keeps = unpack(ARGV)
local meta, call = KEYS[1], redis.call
keeps = keeps == '1'
call('HSETNX', meta, 'm:node_secret', secret)
if call('HSETNX', meta, 'm:epoch_seed', seed) == 1 then
  call('HSET', meta, 'era', name .. ':0', 'run', run, 'kept', keeps and run or '')
end
-- `kept` names the life that has kept all so far. A node from before it was noted, or an operator who has brought back an older copy and
-- takes the field `run` away, leaves it with another name than `run`.
local found = call('HMGET', meta, 'run', 'kept', 'era')
local was, kept, era = found[1], found[2], found[3]
local has_kept, is_other = was and kept == was, was ~= run
if is_other and not (has_kept and keeps) or not is_other and has_kept and not keeps then
  local count = string.match(era, ':(%d+)$')
  era = string.format('%s:%d', name, count + 1)
  call('HSET', meta, 'era', era)
end
if is_other or has_kept and not keeps then
  call('HSET', meta, 'run', run, 'kept', keeps and run or '')
end
return {call('HGET', meta, 'm:node_secret'), call('HGET', meta, 'm:epoch_seed'), era}
