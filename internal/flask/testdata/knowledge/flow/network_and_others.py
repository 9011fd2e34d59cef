# Requests, trees, directories, documents, mail.
import smtplib
import urllib.request
import xml.dom.pulldom
import xml.etree.ElementTree as ET
from email.mime.text import MIMEText

import aiohttp
import elementpath
import httpx
import ldap
import lxml.etree
import mongoengine
import requests
from flask import Flask, request
from flask_mail import Message
from flask_pymongo import PyMongo
from ldap3 import Connection, Server
from ldap3.utils.conv import escape_filter_chars
from pymongo import MongoClient

app = Flask(__name__)
mongo = PyMongo(app)
client = MongoClient()


class Paper(mongoengine.Document):
    name = mongoengine.StringField()


@app.route("/urls")
async def urls():
    q = request.args["q"]
    eval(requests.get(q).text)  #! url
    requests.Session().post("http://" + q)  #! url
    requests.request("GET", q)  #! url
    urllib.request.urlopen(q)  #! url
    urllib.request.urlopen(urllib.request.Request(q))  #! url
    httpx.get(q)  #! url
    async with aiohttp.ClientSession() as s:
        async with s.get(q) as r:  #! url
            eval(await r.text())
    async with httpx.AsyncClient() as c:
        await c.get(q)  #! url
    return ""


@app.route("/trees", methods=["POST"])
def trees():
    q = request.args["q"]
    tree = lxml.etree.fromstring(request.data)  #! xml
    eval(tree.text)  #! code
    tree.xpath("//a[@b='" + q + "']")  #! xpath
    tree.xpath("//a[@b=$b]", b=q)
    ET.fromstring(q)  #! xml
    ET.parse("a.xml").find(q)  #! xpath
    elementpath.select(tree, "//a[" + q + "]")  #! xpath
    xml.dom.pulldom.parseString(q)  #! xml
    return ""


@app.route("/directories")
def directories():
    q = request.args["q"]
    Connection(Server("x")).search("dc=x", "(uid=%s)" % q)  #! ldap
    ldap.initialize("x").search_s("dc=x", ldap.SCOPE_SUBTREE, "(a=" + q + ")")  #! ldap
    return escape_filter_chars("x")


@app.route("/documents")
def documents():
    client["x"]["y"].find(request.json)  #! nosql
    client["x"]["y"].insert_one(request.json)
    eval(client["x"]["y"].find_one({"a": 1})["b"])  #! code
    Paper.objects(__raw__=request.json)  #! nosql
    Paper.objects(name=request.args["q"]).first()
    return ""


@app.route("/mail")
def mail():
    q = request.args["q"]
    smtplib.SMTP("h").sendmail("a", "b", "Subject: " + q)  #! email-header
    Message("x" + q, sender="a")  #! email-header
    return ""
