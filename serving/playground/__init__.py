"""The playground: a page on which one drops a picture and sees its mask, by the REST API alone."""
