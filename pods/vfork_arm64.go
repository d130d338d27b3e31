package pods

// sysVfork is no call's number: here vfork is a way to call clone.
const sysVfork = -1
