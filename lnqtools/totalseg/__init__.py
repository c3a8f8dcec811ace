"""TotalSegmentator as a service: its weights, and a process of its own that it runs in."""
