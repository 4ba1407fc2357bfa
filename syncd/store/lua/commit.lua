-- One transaction of the store: everything in it takes effect, and is published, or nothing.
-- A: era, node (packed), publish command, channels, outcomes acknowledged {client, upto, ...}, changes acknowledged {place, version, ...},
--    operations, outcomes kept per client, ms between two notes of a client's use.
-- Reply: number of transactions so far, epoch and top of each channel by turns, then one answer per operation.
-- Nothing is written before all heads were read and found sound; after that no command can fail.
local node, publish, operations, kept_outcomes, use_ms = A[2], A[3], A[7], A[8], A[9]
local heads = {}
for index, channel in ipairs(A[4]) do
  local head = head_of(channel)
  if head.is_new and call('EXISTS', T .. ':l:' .. head.name) == 1 then
    return redis.error_reply('DAMAGED a log without its channel: was it evicted?')
  end
  heads[index] = head
end

-- ------------------------------------------------------------------------------------------ what was acknowledged

local function drop_outcomes(name, upto)
  local key = T .. ':m:' .. name
  local row = call('HMGET', key, 'l', 'o')
  if row[1] then
    upto = math.min(upto, tonumber(row[1]))
    for mid = tonumber(row[2]) + 1, upto do
      call('HDEL', key, string.format('%.0f', mid))
    end
    if upto > tonumber(row[2]) then
      call('HSET', key, 'o', upto)
    end
  end
end

for index = 1, #A[5], 2 do
  drop_outcomes(A[5][index], A[5][index + 1])
end
for index = 1, #A[6], 2 do
  local place = A[6][index]
  if tonumber(call('HGET', T .. ':d', place) or -1) == A[6][index + 1] then
    call('HDEL', T .. ':d', place)
    call('ZREM', T .. ':ds', place)
  end
end

-- ------------------------------------------------------------------------------------------ events

local function touch(head)
  if head.told then
    return
  end
  head.told = {}
  if head.is_renewed then
    call('UNLINK', T .. ':l:' .. head.name, T .. ':k:' .. head.name)
  end
end

local function append(head, blob, key, full)
  touch(head)
  local log = T .. ':l:' .. head.name
  if head.age >= 0 and head.top == head.floor then
    local _, at = cmsgpack.unpack_limit(blob, 1)
    call('ZADD', T .. ':ages', at + head.age, head.name)
  end
  local offset = head.top + 1
  head.top = offset
  call('XADD', log, id_of(offset), 'e', blob)
  if head.latest then
    local old = call('HGET', T .. ':k:' .. head.name, key)
    if old then
      call('XDEL', log, old .. '-0')
    end
    call('HSET', T .. ':k:' .. head.name, key, offset)
  end
  head.told[#head.told + 1] = '\149' .. pack(offset) .. blob .. (full or '\192')
  return offset
end

local function hold_to_size(head)
  local log = T .. ':l:' .. head.name
  if not head.latest then
    if head.top - head.size > head.floor then
      head.floor = head.top - head.size
      call('XTRIM', log, 'MINID', '~', id_of(head.floor + 1))
    end
    return
  end
  local excess = call('XLEN', log) - head.size
  if excess > 0 then
    for _, event in ipairs(call('XRANGE', log, '-', '+', 'COUNT', excess)) do
      local _, _, key = cmsgpack.unpack_limit(event[2][2], 2)
      call('HDEL', T .. ':k:' .. head.name, key and 'k' .. key or '')
      head.floor = offset_of(event[1])
    end
    call('XTRIM', log, 'MINID', id_of(head.floor + 1))
  end
end

local function array_header(count)
  if count < 16 then
    return string.char(144 + count)
  end
  return '\221' .. struct.pack('>I4', count)
end

-- ------------------------------------------------------------------------------------------ entries

local open_generations = {}

local function mark_touched(head, place)
  local collection = collection_of(head.name)
  if open_generations[collection] == nil then
    open_generations[collection] = call('HGET', T .. ':r:' .. collection, 'open') == '1'
  end
  if open_generations[collection] then
    call('SADD', T .. ':rt:' .. collection, place)
  end
end

local function put_entry(head, key, version, value, tags)
  local entries, place = T .. ':e:' .. head.name, head.name .. '\0' .. key
  local old, old_tags = call('HGET', entries, key), {}
  if old then
    old_tags = select(2, entry_of(old))
  end
  for _, tag in ipairs(old_tags) do
    if not (value and contains(tags, tag)) then
      call('ZREM', T .. ':t:' .. tag, place)
    end
  end
  if value then
    call('HSET', entries, key, pack({version, tags}) .. value)
    for _, tag in ipairs(tags) do
      if not contains(old_tags, tag) then
        call('ZADD', T .. ':t:' .. tag, 0, place)
      end
    end
    if not old then
      call('ZADD', T .. ':s:' .. head.name, 0, key)
    end
  elseif old then
    call('HDEL', entries, key)
    call('ZREM', T .. ':s:' .. head.name, key)
  end
end

-- A write is {channel, key, value or false, event, tags, is forwarded, packed full record, key of the event}.
local function write(entry)
  local head, key = heads[entry[1]], entry[2]
  local place = head.name .. '\0' .. key
  local version = append(head, entry[4], entry[8], entry[7])
  put_entry(head, key, version, entry[3], entry[5])
  if entry[6] then
    call('HSET', T .. ':d', place, version)
    call('ZADD', T .. ':ds', 0, place)
  end
  mark_touched(head, place)
  return version
end

-- ------------------------------------------------------------------------------------------ idempotency keys

-- A key is {digest, hash of the request, wall time in ms}.
local function known(key)
  local raw = call('HGET', T .. ':i', key[1])
  if raw then
    local found = cmsgpack.unpack(raw)
    return found, found[1] == key[2]
  end
end

local function remember(key, ...)
  call('HSET', T .. ':i', key[1], pack({key[2], ...}))
  call('XADD', T .. ':iq', '*', 'd', key[1], 't', key[3])
end

-- An append is {1, channel, event, key of the event, idempotency key or false}.
local function run_append(operation)
  local key = operation[5]
  if key then
    local found, is_same = known(key)
    if found then
      return is_same and {found[2], found[3]} or 0
    end
  end
  local head = heads[operation[2]]
  local offset = append(head, operation[3], operation[4])
  if key then
    remember(key, head.epoch, offset)
  end
  return offset
end

-- ------------------------------------------------------------------------------------------ mutations

local clients = {}

local function client_of(name)
  local client = clients[name]
  if not client then
    local row = call('HMGET', T .. ':m:' .. name, 'l', 'u', 'o')
    client = {last = 0, dropped = 0}
    if row[1] then
      client.last, client.used, client.dropped = tonumber(row[1]), tonumber(row[2]), tonumber(row[3])
    end
    clients[name] = client
  end
  return client
end

local function former(mutation)
  local name, mid = mutation[1], mutation[2]
  if not name then
    local found, is_same
    if mutation[8] then
      found, is_same = known(mutation[8])
    end
    if found then
      return is_same and {1, pack({0, found[2], found[3]})} or {4}
    end
    return nil
  end
  local client = client_of(name)
  if mid > client.last then
    return mid > client.last + 1 and {2, client.last + 1} or nil
  end
  if mid <= client.last - kept_outcomes then
    return {1, false}
  end
  return {1, call('HGET', T .. ':m:' .. name, string.format('%.0f', mid))}
end

-- A read is {channel, key, version, index in the group of who wrote it or false, whether it does not stand if the key is dirty,
-- epoch it was read in or false}.
local function is_so(read, writers)
  local name = heads[read[1]].name
  if read[6] and read[6] ~= heads[read[1]].epoch then
    return false
  end
  if read[4] then
    return writers[name .. '\0' .. read[2]] == read[4]
  end
  local raw = call('HGET', T .. ':e:' .. name, read[2])
  local version = raw and entry_of(raw) or 0
  if raw and version == 0 then
    version = heads[read[1]].at
  end
  return version == read[3]
end

local function advance(name, mutation, positions)
  local client, key = client_of(name), T .. ':m:' .. name
  local mid, at = mutation[2], mutation[6]
  if not client.used or at - client.used >= use_ms then
    client.used = at
    call('ZADD', T .. ':users', at, name)
  end
  if client.dropped == client.last then
    call('ZADD', T .. ':outs', at, name)
  end
  client.last, client.is_changed = mid, true
  call('HSET', key, string.format('%.0f', mid), pack({at, mutation[5], positions}))
end

-- A mutation is {client or false, mid, reads, writes, outcome, wall time in ms, events, idempotency key or false, era that its number is
-- of or false}.
local function decide(mutation, index, writers)
  if mutation[9] and mutation[9] ~= era then
    return {2, 0}
  end
  local answer = former(mutation)
  if answer then
    return answer
  end
  for place, read in ipairs(mutation[3]) do
    if not is_so(read, writers) then
      return {3, place - 1}
    end
    if read[5] and call('HEXISTS', T .. ':d', heads[read[1]].name .. '\0' .. read[2]) == 1 then
      return {5, place - 1}
    end
  end
  local answers, at = {0}, {}
  for _, entry in ipairs(mutation[4]) do
    local offset = write(entry)
    answers[#answers + 1] = offset
    at[entry[1]] = offset
    writers[heads[entry[1]].name .. '\0' .. entry[2]] = index
  end
  for _, event in ipairs(mutation[7]) do
    local offset = append(heads[event[1]], event[2], event[3])
    answers[#answers + 1] = offset
    at[event[1]] = offset
    for _, key in ipairs(event[4]) do
      call('UNLINK', T .. ':f:' .. heads[event[1]].name .. '\0' .. key)
    end
    if event[3] == '' and #event[4] == 0 then
      heads[event[1]].invalidated = offset
    end
  end
  local positions = {}
  for channel, offset in pairs(at) do
    positions[#positions + 1] = heads[channel].name
    positions[#positions + 1] = heads[channel].epoch
    positions[#positions + 1] = offset
  end
  if mutation[1] then
    advance(mutation[1], mutation, positions)
  elseif mutation[8] then
    remember(mutation[8], mutation[5], positions)
  end
  return answers
end

local function run_group(operation)
  local answers, writers = {}, {}
  for index, mutation in ipairs(operation[2]) do
    answers[index] = decide(mutation, index - 1, writers)
  end
  return answers
end

-- ------------------------------------------------------------------------------------------ the swap of a rebuild

-- Each change told: {3, collection, token, writes}. What was touched since the plan was made stays as it is, its version is 0.
local function run_swap(operation)
  local collection, versions = operation[2], {}
  if not is_held(collection, operation[3]) then
    return false
  end
  open_generations[collection] = false  -- it ends here: nothing of it has to be marked
  for first = 1, #operation[4], 200 do
    local places = {}
    for index = first, math.min(first + 199, #operation[4]) do
      local entry = operation[4][index]
      places[#places + 1] = heads[entry[1]].name .. '\0' .. entry[2]
    end
    for offset, is_touched in ipairs(are_touched(collection, places)) do
      local entry = operation[4][first + offset - 1]
      versions[first + offset - 1] = is_touched and 0 or write(entry)
      heads[entry[1]].invalidated = heads[entry[1]].top
    end
  end
  end_generation(collection)
  return versions
end

local run = {run_append, run_group, run_swap}
local reply = {call('HINCRBY', KEYS[1], 'wrote', 1), {}}
for index, operation in ipairs(operations) do
  reply[index + 2] = run[operation[1]](operation)
end

-- ------------------------------------------------------------------------------------------ what is written once

for name, client in pairs(clients) do
  if client.is_changed then
    local upto = client.last - kept_outcomes
    for mid = client.dropped + 1, upto do
      call('HDEL', T .. ':m:' .. name, string.format('%.0f', mid))
    end
    client.dropped = math.max(client.dropped, upto)
    call('HSET', T .. ':m:' .. name, 'l', client.last, 'u', client.used, 'o', client.dropped)
  end
end
for index, head in ipairs(heads) do
  reply[2][2 * index - 1], reply[2][2 * index] = head.epoch, head.top
  if head.told then
    hold_to_size(head)
    if head.is_new then
      call('ZADD', T .. ':channels', 0, head.name)
    end
    call('HSET', T .. ':c:' .. head.name, 'e', head.epoch, 't', head.top, 'f', head.floor, 'a', era)
    if head.invalidated then
      call('HSET', T .. ':c:' .. head.name, 'i', head.invalidated)
    end
    local told = '\147' .. node .. pack(head.epoch) .. array_header(#head.told) .. table.concat(head.told)
    call(publish, T .. ':b:' .. head.name, told)
  end
end
return reply
