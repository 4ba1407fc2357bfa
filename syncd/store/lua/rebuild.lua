-- What changes leases and generations for rebuilds. A: era, what, collection, and its arguments.
-- Each is bounded by what it is given, but for the swap, which grows with the channels that change and with nothing in them.
local collection = A[3]
local lease, touched, copied, listed =
  T .. ':r:' .. collection, T .. ':rt:' .. collection, T .. ':rc:' .. collection, T .. ':rl:' .. collection
local max_listed = 1000
local change = {}

-- ------------------------------------------------------------------------------------------ leases

-- Reply: the job that holds the lease; or token, last key or nothing, rows done, whether all that is dirty was marked as touched.
function change.acquire(job, now, lease_ms, resumes, fills, is_partial, note, takes_over)
  now = time_or(now)
  local row = call('HMGET', lease, 'token', 'expires', 'open', 'fills', 'job', 'partial', 'marked', 'generation')
  if takes_over and not (row[1] and tonumber(row[1]) == takes_over and is_abandoned(row, now)) then
    return false
  end
  if row[1] and tonumber(row[2]) > now then
    return row[5]
  end
  if row[5] == job and row[3] ~= '1' then
    return false
  end
  local token = tonumber(row[1] or 0) + 1
  local goes_on = (resumes or row[5] == job) and not is_partial
  -- Nodes from before generations lay whole, which would look elsewhere for the rows, do not go on with this kind.
  local kind = 'whole ' .. tostring(fills)
  if not (goes_on and row[3] == '1' and row[4] == kind and row[6] ~= '1' and row[7] == '1' and row[8]) then
    end_generation(collection)
    call('UNLINK', T .. ':rr:' .. collection, T .. ':rs:' .. collection)
    call('HDEL', lease, 'after', 'marked')
    call('HSET', lease, 'done', 0, 'generation', string.format('%.0f:%s', token, collection))
  end
  call('HSET', lease, 'token', token, 'job', job, 'expires', now + lease_ms, 'fills', kind, 'open', 1,
    'partial', is_partial and 1 or 0, 'note', note)
  local found = call('HMGET', lease, 'after', 'done', 'marked')
  return {token, found[1], tonumber(found[2]), found[3] == '1' and 1 or 0}
end

-- Count some of what is dirty as touched, before anything is scanned. Reply: the last place, or nothing when it was all.
function change.mark(token, ranges)
  if not is_held(collection, token) then
    return false
  end
  for _, range in ipairs(ranges) do
    local places = call('ZRANGEBYLEX', T .. ':ds', range[1], range[2], 'LIMIT', 0, 500)
    if #places > 0 then
      call('SADD', touched, unpack(places))
      return places[#places]
    end
  end
  call('HSET', lease, 'marked', 1)
  return false
end

function change.renew(token, now, lease_ms)
  local is_ours = is_held(collection, token)
  if is_ours then
    call('HSET', lease, 'expires', time_or(now) + lease_ms)
  end
  return is_ours and 1 or 0
end

function change.release(token, is_kept)
  local is_ours = is_held(collection, token)
  if is_ours and is_kept then
    call('HSET', lease, 'expires', 0)
  elseif is_ours then
    end_generation(collection)
  end
  return is_ours and 1 or 0
end

function change.revoke(job)
  local row = call('HMGET', lease, 'job', 'open', 'token')
  if row[1] ~= job or row[2] ~= '1' then
    return 0
  end
  call('HSET', lease, 'token', tonumber(row[3]) + 1)
  end_generation(collection)
  return 1
end

-- ------------------------------------------------------------------------------------------ rows

local id = call('HGET', lease, 'generation')

-- Put rows into the generation: lists of keys and of raw entries, `false` takes one out; `old` is what is there.
local function put_rows(name, keys, raws, old)
  local rows, order = stage_of(id, name)
  local values, members, gone, delta = {}, {}, {}, 0
  for index, key in ipairs(keys) do
    local raw = raws[index]
    if raw then
      values[#values + 1], values[#values + 2] = key, raw
      members[#members + 1], members[#members + 2] = 0, key
      delta = delta + (is_change(raw) and 1 or 0)
    elseif old[index] then
      gone[#gone + 1] = key
    end
    if old[index] and is_change(old[index]) then
      delta = delta - 1
    end
  end
  if #values > 0 then
    call('HSET', rows, unpack(values))
    call('ZADD', order, unpack(members))
    call('ZADD', T .. ':gc:' .. id, 0, name)
  end
  if #gone > 0 then
    call('HDEL', rows, unpack(gone))
    call('ZREM', order, unpack(gone))
  end
  if delta ~= 0 then
    call('HINCRBY', T .. ':gn:' .. id, name, delta)
  end
end

-- An entry as a generation has it: its version is its own, whatever was swapped in with it.
local function as_row(raw, at)
  local version, tags, value = entry_of(raw)
  return version == 0 and pack({at, tags}) .. value or raw, tags, value
end

-- Put scanned rows {key, value, tags, ...} of one channel into the generation, but for those that were touched.
local function scan(name, given, fills)
  local places, keys, scanned, raws = {}, {}, {}, {}
  for index = 1, #given, 3 do
    places[#places + 1] = name .. '\0' .. given[index]
  end
  local is_touched = are_touched(collection, places)
  for index, place in ipairs(places) do
    if not is_touched[index] then
      keys[#keys + 1] = given[3 * index - 2]
      scanned[#keys] = {place, given[3 * index - 1], given[3 * index]}
    end
  end
  if #keys == 0 then
    return
  end
  local served, old = call('HMGET', T .. ':e:' .. name, unpack(keys)), call('HMGET', stage_of(id, name), unpack(keys))
  local at, room = swapped_at(name), max_listed + 1 - call('ZCARD', listed)
  for index, row in ipairs(scanned) do
    local place, tags, kept = row[1], row[3], {}
    local raw, value
    if served[index] then
      raw, kept, value = as_row(served[index], at)
    end
    if not (raw and (fills or value == row[2] and pack(kept) == pack(tags))) then
      raw = pack({0, tags}) .. row[2]
      for _, tag in ipairs(tags) do
        if not contains(kept, tag) then
          call('ZADD', T .. ':t:' .. tag, 0, place)
        end
      end
      if room > 0 then
        room = room - call('ZADD', listed, 0, place)
      end
    end
    raws[index] = raw
    if old[index] then
      local _, old_tags = entry_of(old[index])
      local _, new_tags = entry_of(raw)
      drop_tags(place, old_tags, new_tags, kept)
    end
  end
  put_rows(name, keys, raws, old)
end

-- Rows come as {channel, {key, value, tags, ...}, ...}; the checkpoint moves with the last of a page, which has an `after`. `known` is
-- how many rows the caller left there, or false: when there are fewer, they are lost.
function change.page(token, known, done, pages, after)
  local found = tonumber(call('HGET', lease, 'done') or 0)
  if not is_held(collection, token) or (known and found < known) then
    return 0
  end
  local fills = call('HGET', lease, 'fills') == 'whole true'
  for index = 1, #pages, 2 do
    scan(pages[index], pages[index + 1], fills)
  end
  if after then
    call('HSET', lease, 'after', after, 'done', done)
  end
  return 1
end

-- ------------------------------------------------------------------------------------------ what the swap is spared

-- Let keys be in the generation what they are among the entries.
local function copy_served(name, keys)
  local served, old = call('HMGET', T .. ':e:' .. name, unpack(keys)), call('HMGET', stage_of(id, name), unpack(keys))
  local at, raws = swapped_at(name), {}
  for index, key in ipairs(keys) do
    local tags = {}
    raws[index] = false
    if served[index] then
      raws[index], tags = as_row(served[index], at)
    end
    if old[index] then
      local _, old_tags = entry_of(old[index])
      drop_tags(name .. '\0' .. key, old_tags, tags)
    end
  end
  put_rows(name, keys, raws, old)
end

local function copy_touched(count)
  local places, of_channel = call('SPOP', touched, count), {}
  for _, place in ipairs(places) do
    local name, key = string.match(place, '^([^%z]*)%z(.*)$')
    of_channel[name] = of_channel[name] or {}
    table.insert(of_channel[name], key)
  end
  for name, keys in pairs(of_channel) do
    copy_served(name, keys)
  end
  if #places > 0 then
    call('SADD', copied, unpack(places))
  end
  return call('SCARD', touched)
end

-- Copy some of what was touched. Reply: how much is left; nothing for a stale token.
function change.copy(token, count)
  return is_held(collection, token) and copy_touched(count)
end

-- Copy entries that stay though they were not scanned: rows that come later could not be told from them.
function change.keep(token, name, keys)
  if not is_held(collection, token) then
    return false
  end
  call('HSET', lease, 'partial', 1)
  if #keys > 0 then
    copy_served(name, keys)
  end
  return 1
end

-- ------------------------------------------------------------------------------------------ a large swap

local function rename(from, to)
  local answer = redis.pcall('RENAME', from, to)
  if answer.err and not string.find(answer.err, 'no such key', 1, true) then
    error(answer.err)
  end
  return not answer.err
end

local function exchange(served, staged)
  local is_served = rename(served, T .. ':spare')
  rename(staged, served)
  if is_served then
    rename(T .. ':spare', staged)
  end
end

-- One event, which is not in the log, and nothing before it is: that is not how the new entries came about. Others are told the offset alone.
local function tell(head, node, publish)
  local offset = head.top + 1
  call('UNLINK', T .. ':l:' .. head.name, T .. ':k:' .. head.name)
  call('HSET', T .. ':c:' .. head.name, 'e', head.epoch, 't', offset, 'f', offset, 'a', era, 'i', offset, 'g', offset)
  if head.is_new then
    call('ZADD', T .. ':channels', 0, head.name)
  end
  call('ZREM', T .. ':ages', head.name)
  local told = '\147' .. node .. pack(head.epoch) .. pack(offset)
  call(publish, T .. ':b:' .. head.name, told)
  return offset
end

-- Let the generation of each channel {channel, entries that are missing} that has changed be its entries, and these be swept: one event each,
-- whose offset is the version of what changed. Reply: how many changed, then name, epoch and offset of each channel; nothing for a stale
-- token; a number: more was touched by now than is copied here, and nothing is done.
function change.whole(token, channels, node, publish, max_late)
  if not is_held(collection, token) then
    return false
  end
  local num_late = call('SCARD', touched)
  if num_late > max_late then
    return num_late
  end
  if num_late > 0 then
    copy_touched(num_late)
  end
  local reply = {0}
  for _, each in ipairs(channels) do
    local head = head_of(each[1])
    local found = call('HGET', T .. ':gn:' .. id, head.name)
    local num_changed = tonumber(found or 0) + each[2]
    if num_changed > 0 then
      local rows, order = stage_of(id, head.name)
      exchange(T .. ':e:' .. head.name, rows)
      exchange(T .. ':s:' .. head.name, order)
      if not found then
        call('ZADD', T .. ':gc:' .. id, 0, head.name)
      end
      reply[1] = reply[1] + num_changed
      reply[#reply + 1], reply[#reply + 2] = head.name, head.epoch
      reply[#reply + 1] = tell(head, node, publish)
    end
  end
  end_generation(collection)
  call('HINCRBY', KEYS[1], 'wrote', 1)
  return reply
end

return change[A[2]](unpack(A, 4, 12))
