"""Skills: documents that tell a model how to do something. Public ones come with the project, custom ones are an owner's."""
