# A restore is proven with the first backup, and then as often as declared; by hand whenever somebody asks.
auto on
estate db offering=postgresql backup=12h prove=1d; cache offering=redis
tick 12h
tick 12h
tick 12h
ask prove db
ask prove db scheduled-20260106T120000Z
ask prove db nonsense
ask prove cache
# What cannot be proven now says nothing of the backup: it is tried again after a pause that grows, and people hear of
# the third in a row.
tick 12h
auto off
tick 12h
ended backup db-1 ok
ended prove-backup db temporary
ended drop db ok
status
tick 1m
ended prove-backup db temporary
tick 2m
ended prove-backup db temporary
# Cut off, it is begun anew.
tick 4m
resume started
auto on
status
