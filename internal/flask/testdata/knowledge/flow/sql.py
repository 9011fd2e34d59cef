# Statements are sinks, parameters are not; each line says what reaches it.
import sqlite3

import MySQLdb
import peewee
import psycopg2
import pymysql
import mysql.connector
from flask import Flask, request
from flask_mysqldb import MySQL
from flask_sqlalchemy import SQLAlchemy
from psycopg2 import sql
from psycopg2.extras import RealDictCursor
from sqlalchemy import create_engine, func, insert, literal_column, or_, select, text, update
from sqlalchemy.orm import declarative_base, sessionmaker

app = Flask(__name__)
db = SQLAlchemy(app)
engine = create_engine("sqlite://")
Session = sessionmaker(bind=engine)
Base = declarative_base()
mysql_extension = MySQL(app)


class User(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.String)


class Note(Base):
    __tablename__ = "note"


class Page(peewee.Model):
    name = peewee.CharField()


@app.route("/drivers")
def drivers():
    q = request.args["q"]
    connection = sqlite3.connect("x")
    connection.execute("select " + q)  #! sql
    cursor = connection.cursor()
    cursor.execute("select * from t where a = ?", (q,))
    cursor.execute("select * from t where a = '%s'" % q)  #! sql
    cursor.executescript(q)  #! sql
    with psycopg2.connect("x") as c, c.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(f"select {q}")  #! sql
        cursor.execute("select %s", [q])
        cursor.execute(sql.SQL("select {}").format(sql.Identifier(q)))
        cursor.execute(sql.SQL(q))  #! sql
    pymysql.connect(host="x").cursor().execute("a" + q)  #! sql
    MySQLdb.connect(host="x").cursor().execute("a" + q)  #! sql
    cursor = mysql.connector.connect().cursor(dictionary=True)
    cursor.execute("a" + q)  #! sql
    cursor = mysql_extension.connection.cursor()
    cursor.execute("a" + q)  #! sql
    cursor.execute("a = %s", (q,))
    return ""


@app.route("/alchemy")
def alchemy():
    q = request.args["q"]
    db.session.execute(text("select " + q))  #! sql
    db.session.execute(text("select :q"), {"q": q})
    db.session.execute(select(User).where(User.name == q))
    db.session.execute(db.select(User).where(or_(User.name.like("%" + q), func.lower(User.name) == q)))
    db.session.execute(insert(User).values(name=q))
    db.session.execute(update(User).where(User.id == q).values(name=q))
    User.query.filter_by(name=q).first()
    User.query.filter(User.name == q).order_by(text(q)).all()  #! sql
    User.query.filter(literal_column(q) == 1)  #! sql
    session = Session()
    session.query(Note).filter(Note.a == q).all()
    session.execute("select " + q)  #! sql
    with engine.connect() as c:
        c.exec_driver_sql("select " + q)  #! sql
        c.execute(select(Note).where(Note.b.in_([q])))
    Page.select().where(Page.name == q)
    Page.raw("select " + q)  #! sql
    peewee.SqliteDatabase("x").execute_sql("select " + q)  #! sql
    return ""


@app.route("/stored")
def stored():
    cursor = sqlite3.connect("x").cursor()
    cursor.execute("select a from t")
    for row in cursor:
        eval(row[0])  #! code
    eval(cursor.fetchone()[0])  #! code
    eval(User.query.filter_by(id=1).first().name)  #! code
    eval(User.query.get(1).name)  #! code
    for user in User.query.all():
        eval(user.name)  #! code
    eval(db.session.execute(text("select 1")).fetchall()[0][0])  #! code
    return ""


def somewhere(cursor):
    q = request.args["q"]
    cursor.execute("select " + q)  #! sql
    eval(cursor.fetchall()[0])  #! code
