# A backup that cannot be restored is bad: people are told, the next newest one is proven soon, and a new one is made.
auto on
estate db offering=postgresql backup=12h prove=1d
tick 12h
tick 12h
spoil db scheduled-20260107T000000Z
tick 12h
status
tick 2m
status
# A restore from a bad one changes nothing.
spoil db scheduled-20260106T000000Z
ask restore db scheduled-20260106T000000Z
status
tick 1m
