# A broker keeps its plans up to date: an instance is updated where it is, when somebody asks for it.
auto on
upkeep bought 1.0.0
estate upgrade soak=1m; db offering=bought; web needs=db
upkeep bought 1.1.0
status
ask upgrade db
tick 2m
status
upkeep bought 1.2.0
auto off
ask upgrade db
ended update db-1 person
auto on
tick 5m
status
