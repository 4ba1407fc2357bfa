-- What changes leases, generations and entries for rebuilds. A: era, what, collection, and its arguments.
-- A row lies as its tags in msgpack with its value behind; an empty one says that the entry stays as it is.
local collection = A[3]
local lease, rows, order, touched =
  T .. ':r:' .. collection, T .. ':rr:' .. collection, T .. ':rs:' .. collection, T .. ':rt:' .. collection
local change = {}

local function is_held(token)
  local row = call('HMGET', lease, 'token', 'expires', 'open')
  return row[1] and tonumber(row[1]) == token and tonumber(row[2]) > 0 and row[3] == '1'
end

local function clear()
  call('UNLINK', rows, order, touched)
end

local function finish(is_kept)
  call('HSET', lease, 'expires', 0, 'open', is_kept and 1 or 0)
  if not is_kept then
    clear()
  end
end

-- Reply: the job that holds the lease; or token, last key or nothing, rows done.
function change.acquire(job, now, lease_ms, resumes, fills, ranges, is_partial, note, takes_over)
  now = time_or(now)
  local row = call('HMGET', lease, 'token', 'expires', 'open', 'fills', 'job', 'partial')
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
  if not (goes_on and row[3] == '1' and row[4] == tostring(fills) and row[6] ~= '1') then
    clear()
    call('HDEL', lease, 'after')
    call('HSET', lease, 'done', 0)
    each_lex(T .. ':ds', ranges, function(places)
      call('SADD', touched, unpack(places))
    end)
  end
  call('HSET', lease, 'token', token, 'job', job, 'expires', now + lease_ms, 'fills', tostring(fills), 'open', 1,
    'partial', is_partial and 1 or 0, 'note', note)
  return {token, call('HGET', lease, 'after'), tonumber(call('HGET', lease, 'done'))}
end

function change.renew(token, now, lease_ms)
  local is_ours = is_held(token)
  if is_ours then
    call('HSET', lease, 'expires', time_or(now) + lease_ms)
  end
  return is_ours and 1 or 0
end

function change.release(token, is_kept)
  local is_ours = is_held(token)
  if is_ours then
    finish(is_kept)
  end
  return is_ours and 1 or 0
end

function change.revoke(job)
  local row = call('HMGET', lease, 'job', 'open', 'token')
  if row[1] ~= job or row[2] ~= '1' then
    return 0
  end
  call('HSET', lease, 'token', tonumber(row[3]) + 1)
  finish(false)
  return 1
end

-- Whether an entry is as a row has it, or is not to be replaced.
local function stays(row, fills)
  local raw = call('HGET', T .. ':e:' .. row[1], row[2])
  if not raw then
    return false
  end
  local _, tags, value = entry_of(raw)
  return fills or (value == row[3] and pack(tags) == pack(row[4]))
end

-- A scanned row is {channel, key, value, tags}.
function change.page(token, scanned, after, done)
  if not is_held(token) then
    return 0
  end
  local fills = call('HGET', lease, 'fills') == 'true'
  for _, row in ipairs(scanned) do
    local place = row[1] .. '\0' .. row[2]
    call('HSET', rows, place, stays(row, fills) and '' or pack(row[4]) .. row[3])
    call('ZADD', order, 0, place)
  end
  call('HSET', lease, 'after', after, 'done', done)
  return 1
end

-- ------------------------------------------------------------------------------------------ a large swap

local function put(name, key, version, tags, value)
  local entries, place = T .. ':e:' .. name, name .. '\0' .. key
  local old = call('HGET', entries, key)
  local is_same_tags = false
  if old then
    local _, old_tags = entry_of(old)
    is_same_tags = value and pack(old_tags) == pack(tags)
    if not is_same_tags then
      for _, tag in ipairs(old_tags) do
        call('ZREM', T .. ':t:' .. tag, place)
      end
    end
  end
  if value then
    call('HSET', entries, key, pack({version, tags}) .. value)
    if not old then
      call('ZADD', T .. ':s:' .. name, 0, key)
    end
    if not is_same_tags then
      for _, tag in ipairs(tags) do
        call('ZADD', T .. ':t:' .. tag, 0, place)
      end
    end
  else
    call('HDEL', entries, key)
    call('ZREM', T .. ':s:' .. name, key)
  end
end

-- One event, and nothing before it: what the log told is not how the new entries came about. Other nodes are told the offset alone.
local function tell(head, blob, node, publish)
  local offset = head.top + 1
  call('UNLINK', T .. ':l:' .. head.name, T .. ':k:' .. head.name)
  call('XADD', T .. ':l:' .. head.name, id_of(offset), 'e', blob)
  call('XTRIM', T .. ':l:' .. head.name, 'MAXLEN', 0)
  call('HSET', T .. ':c:' .. head.name, 'e', head.epoch, 't', offset, 'f', offset, 'a', era, 'i', offset)
  call('ZADD', T .. ':channels', 0, head.name)
  call('ZREM', T .. ':ages', head.name)
  local told = '\147' .. node .. pack(head.epoch) .. pack(offset)
  call(publish, T .. ':b:' .. head.name, told)
  return offset
end

-- Every row at once: each changed channel has one event, whose offset is the version of what changed in it.
-- Reply: how many changed, then name, epoch and offset of each channel; nothing for a stale token.
function change.whole(token, channels, deletes_missing, blob, node, publish)
  if not is_held(token) then
    return false
  end
  local reply = {0}
  for _, channel in ipairs(channels) do
    local head, offset = head_of(channel), nil
    local function changed(key, tags, value)
      if call('SISMEMBER', touched, head.name .. '\0' .. key) == 1 then
        return
      end
      offset = offset or tell(head, blob, node, publish)
      put(head.name, key, offset, tags, value)
      reply[1] = reply[1] + 1
    end
    local missing = {}
    if deletes_missing then
      each_lex(T .. ':s:' .. head.name, {{'-', '+'}}, function(keys)
        for _, key in ipairs(keys) do
          if call('HEXISTS', rows, head.name .. '\0' .. key) == 0 then
            missing[#missing + 1] = key
          end
        end
      end)
    end
    each_lex(order, {{'[' .. head.name .. '\0', '(' .. head.name .. '\1'}}, function(places)
      for _, place in ipairs(places) do
        local raw = call('HGET', rows, place)
        if raw ~= '' then
          local at, tags = cmsgpack.unpack_one(raw)
          changed(string.sub(place, #head.name + 2), tags, at == -1 and '' or string.sub(raw, at + 1))
        end
      end
    end)
    for _, key in ipairs(missing) do
      changed(key, {}, false)
    end
    if offset then
      reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = head.name, head.epoch, offset
    end
  end
  finish(false)
  return reply
end

return change[A[2]](unpack(A, 4, 12))
