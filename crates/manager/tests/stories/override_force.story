# What a person says is tried once in place of what was weighed, and what that would have been is kept beside it.
auto on
estate web
ask override force web ask by Ada for 1h
hang web-1
tick 5m
status
mended web
tick 5m
hang web-1
tick 5m
# Also to where ostler would not move it by itself.
estate providers=there; web; app prefer=here,there
ask override force app fail-over by Ada for 1h
hang app-1
tick 5m
status
