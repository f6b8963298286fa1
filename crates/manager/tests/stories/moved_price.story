# A place elsewhere has a price. Where an hour without it costs little, a person is asked rather than that it is paid, and is
# given the time that an answer takes.
auto on
estate providers=there; price there redis small 400; cache offering=redis prefer=here,there; web needs=cache outage=36
crashing cache
die cache-1 spent
tick 20m
status
# An hour without it costs more than was said, since web stands still: now it is worth its price.
estate providers=there; price there redis small 400; cache offering=redis prefer=here,there; web needs=cache outage=360000
mended cache
tick 5m
status
