-- Which of some commands the user of this connection may run, asked of the server, which runs none of them. ARGV[1]: commands with all
-- of their arguments (see redis_rights.py), as one msgpack array. Reply: 1 or 0 for each; a command that the server does not have is 0, too.
local verdicts = {}
for index, words in ipairs(cmsgpack.unpack(ARGV[1])) do
  local is_known, may = pcall(redis.acl_check_cmd, unpack(words))
  verdicts[index] = is_known and may and 1 or 0
end
return verdicts
