FLASK_APP=wsgi:app
FLASK_DEBUG=1  # LEAK[settings]: debug mode for everybody who runs flask here
