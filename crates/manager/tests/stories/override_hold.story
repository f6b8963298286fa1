# What is held is looked at, and people are told; nothing is done to it until that ends. A reflex that was granted goes on,
# and what a person asks for by name is done.
auto on
estate web instances=2
ask override hold web by Ada for 1h
die web-1
hang web-1
tick 1m
hang web-2
tick 5m
status
ask drill web kill
ask restart web
tick 1m
status
hang web-1
tick 2m
ask override end override-1
tick 1m
status
