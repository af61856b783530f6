"""A folder for each action: a clip, a picture and what the networks said."""
