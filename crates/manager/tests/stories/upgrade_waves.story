# A newer version is put to use in waves, in its window: one first, then as many as are done, each watched for a while.
auto on
offers web 1.0
estate upgrade window=Mon_13:00_-_15:00 soak=5m; db offering=redis version=7; web instances=4 needs=db
offers web 1.0,1.1
status
tick 30m
tick 31m
status
die web-4
tick 5m
status
tick 20m
status
ask rollback web
ask rollback web
