# What is not even noticed is undone, told, and left alone by the schedule until a person's drill is proven.
auto on
estate drill every=2h window=Mon_12:00_-_24:00 faults=kill at-most=9 lasts=1m; db offering=redis
tick 9m
auto off
tick 1m
ended cause db ok
tick 1m
ended undo db ok
auto on
tick 4h
status
ask drill db kill
tick 3h
