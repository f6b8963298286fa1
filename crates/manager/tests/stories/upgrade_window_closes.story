# A window that closes on the way leaves what is done, and the rest stays what it was until the next one.
auto on
offers web 1.0
estate upgrade window=Mon,Tue_13:00_-_13:10 soak=5m; web instances=4
offers web 1.0,1.1
tick 75m
status
die web-4
tick 1d
status
