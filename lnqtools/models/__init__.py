"""Trained models of others: what is known of them, and how they come here whole."""
