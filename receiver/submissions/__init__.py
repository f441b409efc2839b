"""Creating batches and single runs at a sender, with their webhooks registered in time."""
