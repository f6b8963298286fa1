# Where something is wrong already, or would be too much, nothing is caused.
auto on
estate drill keep=1 window=Sun_02:00_-_04:00; db offering=redis; web instances=2; far offering=bought
ask drill web kill
ask drill nobody kill the new owner wants to see it
ask drill db kill the new owner wants to see it
ask drill far kill the new owner wants to see it
ask drill far provider-outage the new owner wants to see it
ask drill db provider-outage the new owner wants to see it
auto off
hang web-1
probe web-1 unready
ask drill db refuse the new owner wants to see it
auto on
tick 10m
auto off
ask drill web slow the new owner wants to see it
ask drill web kill the new owner wants to see it
ask scale web 3
auto on
tick 5m
ask down
ask drill web kill the new owner wants to see it
