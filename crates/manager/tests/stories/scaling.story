auto on
estate web instances=2
ask scale web 4
ask scale web 1
ask scale web 3
status
ask scale web 0
ask scale web 4000000000
# The file's word counts again.
estate web instances=2
status
