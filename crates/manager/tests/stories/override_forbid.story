# Nothing new is bought where that is forbidden; what exists there stays, and is healed.
auto on
estate providers=there; web prefer=here,there
ask override forbid here by Ada for 1h
estate providers=there; web prefer=here,there; app prefer=here,there
ask scale web 2
estate providers=there; web instances=2 prefer=here,there; app prefer=here,there; only prefer=here
estate providers=there; web instances=2 prefer=here,there; app prefer=here,there
status
hang web-1
tick 1m
tick 1h
status
