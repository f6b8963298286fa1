# The file asks for another version: it waits for its window, and needs no word from a person.
auto on
estate upgrade window=Mon_13:00_-_15:00 soak=1m; cache offering=redis version=7; web needs=cache
estate upgrade window=Mon_13:00_-_15:00 soak=1m; cache offering=redis version=8; web needs=cache
status
ask upgrade cache
tick 70m
status
