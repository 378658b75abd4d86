"""Many runs of train_mt10, on this machine or on a cluster."""
