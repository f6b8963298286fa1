# The newest backup is restored on the side. Nothing counts against anybody, and nobody is touched.
auto on
estate db offering=postgresql slo=99.9% backup=4h prove=30d; cache offering=redis
ask drill cache backup-restore
ask drill db backup-restore
ask backup db one
tick 10m
ask drill db backup-restore
tick 10s
status
auto off
ask drill db backup-restore
ask drill db backup-restore
ask prove db
ask drill db kill
resume started
auto on
tick 10m
spoil db one
ask drill db backup-restore
tick 10s
status
