-- A channel's head and a slice of its log. A: era, channel, after, upto or false, is reverse, limit, max bytes, is a tail.
-- A page holds one event if there is any; a tail ends before the first that does not fit.
-- In place of the channel there may be a list of {channel, limit, max bytes}: then the reply is a list too.
-- Reply: epoch, top, floor, whether that is all, then id and event by turns.
local function page_of(channel, limit, room)
  local head = head_of(channel)
  local floor = floor_of(head)
  local first = math.max(A[3], floor) + 1
  local last = A[4] and math.min(A[4], head.top) or head.top
  local is_tail = A[8]
  local reply = {head.epoch, head.top, floor, 1}
  local count = 0
  while first <= last do
    local wanted = math.min(limit - count + 1, 256)
    local found
    if A[5] then
      found = call('XREVRANGE', T .. ':l:' .. head.name, id_of(last), id_of(first), 'COUNT', wanted)
    else
      found = call('XRANGE', T .. ':l:' .. head.name, id_of(first), id_of(last), 'COUNT', wanted)
    end
    for _, event in ipairs(found) do
      local blob = event[2][2]
      room = room - record_length(blob)
      if count == limit or (room < 0 and (count > 0 or is_tail)) then
        reply[4] = 0
        return reply
      end
      count = count + 1
      reply[#reply + 1] = event[1]
      reply[#reply + 1] = blob
    end
    if #found < wanted then
      break
    end
    local at = offset_of(found[#found][1])
    if A[5] then
      last = at - 1
    else
      first = at + 1
    end
  end
  return reply
end

if type(A[2][1]) ~= 'table' then
  return page_of(A[2], A[6], A[7])
end
local replies = {}
for index, each in ipairs(A[2]) do
  replies[index] = page_of(each[1], each[2], each[3])
end
return replies
