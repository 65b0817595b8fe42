"""How often a candidate is drawn, as log_q: what the sampling-bias correction subtracts."""
