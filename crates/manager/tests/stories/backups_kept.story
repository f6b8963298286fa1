# Backups are thinned out as they age; by hand nobody deletes the last good one, nor what is being used.
auto on
estate db offering=postgresql backup=6h prove=30d
tick 6h
ask backup db mine
ask backup db scheduled-mine
ask drop db mine
tick 6h
ask drop db mine
ask drop db mine
tick 1d
# Who is about to be used stays.
auto off
tick 6h
ended backup db-1 ok
ask prove db scheduled-20260106T000000Z
ask drop db scheduled-20260106T000000Z
auto on
# The newest one that was proven stays, however old it is; and one that cannot be deleted is tried again.
auto off
tick 6h
ended backup db-1 ok
tick 6h
ended backup db-1 ok
ended drop db temporary
tick 1m
ended drop db ok
