# Ten kills in a row of a healthy program: each is answered at once. People hear of the first, and of the others
# together.
auto on
estate web
die web-1
tick 2s
die web-1
tick 2s
die web-1
tick 2s
die web-1
tick 2s
die web-1
tick 2s
die web-1
tick 2s
die web-1
tick 2s
die web-1
tick 2s
die web-1
tick 2s
die web-1
tick 2s
tick 10s
status
tick 1h
# What comes a good while later is told at once again.
die web-1
tick 30s
die web-1
tick 1h
