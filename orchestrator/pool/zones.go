package pool

// Controllers may run where no list of zones is installed.
import _ "time/tzdata"
