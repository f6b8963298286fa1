# Step by step: it is on record before it is caused, healed like any other, undone, and no level suffers.
auto on
estate web slo=99.9%
auto off
tick 10m
ask drill web hang
ended cause web ok
tick 3s
auto on
tick 10m
status
