# The `tilefold` command. Workers (`run`) and servers (`serve`) are the same image: compose.yaml shows both.
#
#   docker build -t tilefold .
#   docker run --rm -v "$PWD:/data" tilefold validate

FROM node:24-slim AS build
WORKDIR /build
# Dependencies change less often than sources: they are a layer of their own.
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN npm run build && npm prune --omit=dev

FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /build/node_modules ./node_modules
COPY --from=build /build/package.json ./
COPY --from=build /build/dist ./dist
RUN ln -s /app/dist/src/cli/main.js /usr/local/bin/tilefold && install -d -o node -g node /data
# Definitions, the configuration file and the embedded store are looked for here.
WORKDIR /data
USER node
EXPOSE 6567 9464
ENTRYPOINT ["tilefold"]
CMD ["--help"]
