"""The first call: do these two belong together, and which version do they speak?"""
