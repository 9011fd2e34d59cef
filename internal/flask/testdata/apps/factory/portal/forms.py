from flask_wtf import FlaskForm
from flask_wtf.file import FileField
from wtforms import PasswordField, StringField
from wtforms.validators import DataRequired


class BaseForm(FlaskForm):
    next = StringField("next")


class LoginForm(BaseForm):
    email = StringField("email", validators=[DataRequired()])
    password = PasswordField("password")


class PictureForm(FlaskForm):
    picture = FileField("picture")
