# A drill begins where all is well and nothing can be lost; what it shows is on record.
auto on
estate db offering=postgresql slo=99.9%; web needs=db instances=2
ask drill db kill
ask backup db b1
ask drill db kill
status
# Of two instances one is drilled.
ask drill web hang
tick 10s
ask drill web refuse
tick 40d
status
ask drill db kill
