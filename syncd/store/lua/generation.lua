-- What scripts of a rebuild and commits share: the lease of a collection, and its generation, which lies beside the entries.
-- A generation has an id, `<token it was opened with>:<collection>`. Its rows lie as entries do: in `:ge:<token>:<channel>`, their keys in
-- order in `:gs:<token>:<channel>`; its channels in `:gc:<id>`, in `:gn:<id>` how many rows of each have changed. A row that changes has
-- version 0, any other that of the entry it is as.

local function is_held(collection, token)
  local row = call('HMGET', T .. ':r:' .. collection, 'token', 'expires', 'open')
  return row[1] and tonumber(row[1]) == token and tonumber(row[2]) > 0 and row[3] == '1'
end

-- Nobody will be served what is in the generation now: it is swept in steps.
local function end_generation(collection)
  local lease = T .. ':r:' .. collection
  local id = call('HGET', lease, 'generation')
  if id then
    call('HDEL', lease, 'generation')
    call('HINCRBY', lease, 'dead', 1)
    call('ZADD', T .. ':dead', 0, id)
  end
  call('HSET', lease, 'expires', 0, 'open', 0)
  call('UNLINK', T .. ':rt:' .. collection, T .. ':rc:' .. collection, T .. ':rl:' .. collection)
end

-- Whether a row changes something: its version is 0.
local function is_change(raw)
  return string.byte(raw, 2) == 0
end

-- Which of some places were touched since the generation was opened: a list of booleans.
local function are_touched(collection, places)
  local answers = {}
  for index = 1, #places do
    answers[index] = false
  end
  for _, set in ipairs({T .. ':rt:' .. collection, T .. ':rc:' .. collection}) do
    if #places > 0 and call('EXISTS', set) == 1 then
      for index, is_in in ipairs(call('SMISMEMBER', set, unpack(places))) do
        answers[index] = answers[index] or is_in == 1
      end
    end
  end
  return answers
end

local function stage_of(id, name)
  local token = string.match(id, '^%d+')
  return T .. ':ge:' .. token .. ':' .. name, T .. ':gs:' .. token .. ':' .. name
end

-- The places of a tag are those of entries that carry it, and of rows of generations too: whoever looks there looks at the entry.
local function drop_tags(place, tags, kept, kept_too)
  for _, tag in ipairs(tags) do
    if not (contains(kept, tag) or kept_too and contains(kept_too, tag)) then
      call('ZREM', T .. ':t:' .. tag, place)
    end
  end
end
