"""Which weights do we stand behind, and who answers as production?"""
