-- Make what every store needs, and note which server has the data, in which of its lives. ARGV: secret, seed and name of an era to use where
-- there are none; the server's run id and replication id; whether it keeps all that it answers, was a replica itself, has some, and some that
-- are still to get their copy (1 or 0); eras that the caller knows, each with how many transactions it knows of as of that.
-- Reply: secret, seed, era, number of transactions.
-- An era goes on over a restart only from a life that kept all, as far as anybody looked, to one that does: any other may have lost the end
-- of every log. It ends, too, as soon as its server is seen to keep all no more: what is told from then on goes with the note, if that is lost.
-- The name of an era is new, for the end that was lost may have told of one itself.
-- Once there were replicas no life counts as one that kept all. Who answers after it may be a replica that was behind, was made the master
-- and started again: nothing that it says of itself tells that from an honest restart.
-- Whatever it says, data with less transactions than a node knows of in their era has lost its end: somebody has brought back an older copy.
-- Replicas that are still to get their copy count where nothing is kept yet: they were started together with their master, and would end the
-- first era some seconds later. Elsewhere they don't: who takes a backup looks the same.
local secret, seed, name, run, replid, keeps, is_promoted, has_replicas, awaits_some = unpack(ARGV, 1, 9)
local meta, call = KEYS[1], redis.call
if has_replicas == '1' or awaits_some == '1' and call('HEXISTS', meta, 'm:epoch_seed') == 0 then
  call('HSETNX', meta, 'replicas', 1)
end
local may_go_on = keeps == '1' and is_promoted == '0' and call('HEXISTS', meta, 'replicas') == 0
call('HSETNX', meta, 'm:node_secret', secret)
if call('HSETNX', meta, 'm:epoch_seed', seed) == 1 then
  call('HSET', meta, 'era', name .. ':0', 'run', run, 'replid', replid, 'kept', may_go_on and run or '')
end
-- `kept` names the life that has kept all so far. A node from before it was noted, or an operator who has brought back an older copy and
-- takes the field `run` away, leaves it with another name than `run`.
local found = call('HMGET', meta, 'run', 'replid', 'kept', 'era', 'wrote')
local was, stream, kept, era, wrote = found[1], found[2], found[3], found[4], tonumber(found[5] or 0)
local has_kept, is_other = was and kept == was, was ~= run
local is_lost
if is_other then
  is_lost = not (has_kept and may_go_on)
else
  -- A master that followed another for a while has the data of that one, in the same process.
  local has_followed = is_promoted == '1' and stream and stream ~= replid
  is_lost = has_kept and not may_go_on or has_followed
end
for n = 10, #ARGV, 2 do
  is_lost = is_lost or era == ARGV[n] and wrote < tonumber(ARGV[n + 1])
end
if is_lost then
  era = next_era(era, name)
  call('HSET', meta, 'era', era)
end
if is_other or is_lost then
  call('HSET', meta, 'run', run, 'kept', may_go_on and run or '')
end
if stream ~= replid then
  call('HSET', meta, 'replid', replid)
end
return {call('HGET', meta, 'm:node_secret'), call('HGET', meta, 'm:epoch_seed'), era, wrote}
