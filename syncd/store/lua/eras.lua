-- An era is named by its first writer at random, and counted.
local function next_era(era, name)
  return string.format('%s:%d', name, string.match(era, ':(%d+)$') + 1)
end

